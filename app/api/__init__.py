"""HTTP only: parse, call one function, render."""
