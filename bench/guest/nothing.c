// A program that does nothing: what is left of fork+exec+wait is the kernel's work, and the start
// of a static program.
int main(void)
{
    return 0;
}
