"""The types of the reports.

They are dictionaries at run time, as they are stored and as the API answers them.
"""
