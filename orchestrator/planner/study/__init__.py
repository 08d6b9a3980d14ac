"""Does it pay to use more workers? What a scaling study found, as values, text and a page."""
