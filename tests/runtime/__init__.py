"""Control's parts, each with fakes for the others."""
