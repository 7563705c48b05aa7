"""Floor 5: the page in the browser, thin handlers over `studio`."""
