"""The recurrences of networks without attention: one function each, with a plain form in torch and a fused
one; ``forms`` picks."""
