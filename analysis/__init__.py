"""Tables and pictures of studies: pandas and matplotlib over what a search recorded."""
