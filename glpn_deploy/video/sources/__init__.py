"""Where frames come from: clips, folders, cameras and addresses."""
