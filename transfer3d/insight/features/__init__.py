"""What a student makes of videos: named layers, their file and its formats."""
