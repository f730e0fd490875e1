"""What builds assets, checks, jobs and sensors."""
