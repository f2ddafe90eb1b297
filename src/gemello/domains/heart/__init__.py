"""Virtual hearts: from ion-channel block to action potentials, torsade risk, tissue and the ECG."""
