"""Images: indexed by what they show, found again by words, and looked at with a person's eyes."""
