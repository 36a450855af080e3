"""HTML and SVG as strings; everything that comes from a file passes through `text` or an attribute of `tag`."""

from html import escape

VOID = {"img", "line", "rect", "circle", "path", "meta"}  # written without a closing tag


def text(content: object) -> str:
    """Escapes text between tags."""
    return escape(str(content), quote=False)


def tag(name: str, /, *inner: str, **attributes: object) -> str:
    """Writes one element around markup that is already escaped.

    Attributes are escaped here; `class_` means `class`, other underscores mean hyphens, and None omits an attribute.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not inner:
        return f"<{name}{shown}/>"
    return f"<{name}{shown}>{''.join(inner)}</{name}>"
