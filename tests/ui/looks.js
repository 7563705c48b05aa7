// How a page looks, measured in it: what is too small for a finger, too faint to read, or shows no focus.
() => {
  const TARGETS = "button, a[href], input:not([type=file]), textarea, select, summary, [role=tab], [role=button]";
  const name = (e) => `${e.tagName.toLowerCase()}#${e.id || e.closest("[id]")?.id} ${e.className?.baseVal ?? e.className} ${(e.innerText || e.getAttribute("aria-label") || "").slice(0, 30)}`;
  const seen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && e.getClientRects().length > 0 && !e.closest(".visually-hidden"); // with which gradio measures tabs
  const enabled = (e) => !e.closest(":disabled, [aria-disabled=true]");
  const targets = [...document.querySelectorAll(TARGETS)].filter(seen);

  // A choice is chosen by its label. A link in a sentence is as high as its line.
  const box = (e) => (e.matches("[type=checkbox], [type=radio]") ? e.closest("label") ?? e : e).getBoundingClientRect();
  const inline = (e) => e.matches("a") && getComputedStyle(e).display === "inline";
  const small = targets.filter((e) => !inline(e) && box(e).height < 43.5).map((e) => `${name(e)}: ${box(e).height.toFixed(0)} px`);

  // Any colour of CSS as red, green, blue (to 255) and opacity.
  const brush = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (css) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = css;
    brush.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((v, k) => a * v + (1 - a) * below[k]);
  const back = (e) => (e ? over(rgba(getComputedStyle(e).backgroundColor), back(e.parentElement)) : [255, 255, 255]);
  const opacity = (e) => (e ? Number(getComputedStyle(e).opacity) * opacity(e.parentElement) : 1);
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const contrast = (e, style) => {
    const below = back(e), [r, g, b, a] = rgba(style.color);
    const [high, low] = [over([r, g, b, a * opacity(e)], below), below].map(light).sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const faint = new Set();
  const read = (e, style, text) => {
    const found = contrast(e, style);
    if (found < 4.5) faint.add(`${name(e)} "${text.trim().slice(0, 30)}": ${found.toFixed(2)}`);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data, e = walker.currentNode.parentElement;
    if (text.trim() && !e.closest("script, style, noscript") && seen(e) && enabled(e)) read(e, getComputedStyle(e), text);
  }
  for (const e of document.querySelectorAll("input, textarea")) {
    if (!seen(e) || !enabled(e) || ["checkbox", "radio", "range", "file"].includes(e.type)) continue;
    if (e.value) read(e, getComputedStyle(e), e.value);
    else if (e.placeholder) read(e, getComputedStyle(e, "::placeholder"), e.placeholder);
  }

  // A ring around what has the focus, or around what stands for it.
  const ring = (e) => { const { outlineStyle, outlineWidth } = getComputedStyle(e); return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2; };
  const rings = (e) => [e, e.parentElement, e.parentElement?.parentElement, ...e.children].some((part) => part && ring(part));
  const before = document.activeElement;
  const focus = targets.filter((e) => enabled(e) && e.tabIndex >= 0).filter((e) => { e.focus({ preventScroll: true, focusVisible: true }); return document.activeElement === e && !rings(e); }).map(name);
  before?.focus?.({ preventScroll: true });

  return { small, faint: [...faint], focus, wide: document.documentElement.scrollWidth > innerWidth ? [`${document.documentElement.scrollWidth} px`] : [] };
}
