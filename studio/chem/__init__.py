"""Molecules: SMILES ↔ graphs as arrays, files of molecules, properties and measures. What needs RDKit imports
it through `studio.chem.toolkit`, so the rest of the studio works without."""
