#include "header.h"
int length(void);

int length(void)
{
	return (int)(end_cli - start_cli);
}
