"""Records from elsewhere: read, judged, and taken in all or not at all."""
