"""What the site has that no page says: formulas, navigation, pages made from the library."""
