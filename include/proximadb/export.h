/* Marks what leaves the shared library; everything else is hidden. */
#ifndef PROXIMADB_EXPORT_H
#define PROXIMADB_EXPORT_H

#define PDB_API __attribute__((visibility("default")))

#endif
