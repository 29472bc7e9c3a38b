"""What builds the site and sets the project up; no page imports from here."""
