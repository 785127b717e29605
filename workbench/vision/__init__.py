"""Images: opened with care (`images`), indexed by what they show and found again (`index`)."""
