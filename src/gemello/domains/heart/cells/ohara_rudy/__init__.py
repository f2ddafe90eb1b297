"""O'Hara-Rudy 2011 ventricular cells."""
