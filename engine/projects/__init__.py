"""Projects: uploads, datasets, marketing-mix models and attributions of a team."""
