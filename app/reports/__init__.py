"""The types of the reports: dictionaries at run time, as they are stored and as the API answers them."""
