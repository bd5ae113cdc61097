"""What a person does with the engine: train on a folder of labelled images, predict, evaluate."""
