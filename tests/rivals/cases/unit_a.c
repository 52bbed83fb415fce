#include "header.h"
int length(void);

int main(void)
{
	return length() != end_cli - start_cli;
}
