"""`python -m docs`: write the generated pages beside this script."""

from docs.functions import PAGE, page

PAGE.write_text(page())
print(PAGE)
