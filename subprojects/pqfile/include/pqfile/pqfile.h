/* pqfile.h: Parquet files, written and read. See types.h (errors, metadata, batches), reader.h,
 * writer.h, arrow.h, and README.md for what is supported. */
#ifndef PQFILE_PQFILE_H
#define PQFILE_PQFILE_H

#include "pqfile/arrow.h"
#include "pqfile/reader.h"
#include "pqfile/types.h"
#include "pqfile/writer.h"

#define PQFILE_VERSION "1.0.0"

#endif
