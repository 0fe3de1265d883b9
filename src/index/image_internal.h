/* What writing and reading an image share. */
#ifndef INDEX_IMAGE_INTERNAL_H
#define INDEX_IMAGE_INTERNAL_H

#include "index/image.h"

extern const char index_image_magic[8];

#endif
