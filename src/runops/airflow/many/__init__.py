"""What a task of many runs is made of; the sensor, the operator and the trigger stand beside this folder."""
