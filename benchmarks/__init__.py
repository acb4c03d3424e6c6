"""What the project measures of itself: each module writes records, one JSON object a line."""
