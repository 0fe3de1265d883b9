/* Failpoints lie in os, where the log can see them, too. */
#ifndef ENGINE_FAILPOINT_H
#define ENGINE_FAILPOINT_H

#include "os/failpoint.h"

#endif
