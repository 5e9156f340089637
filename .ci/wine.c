/* bcryptprimitives.dll for wine 8, test only: what Go programs ask of Windows and
 * this wine does not have. Every Go program loads the DLL when it starts.
 *
 * ProcessPrng draws random numbers. NtSetInformationFile says of
 * FileDispositionInformationEx, by which os.RemoveAll deletes, that there is no
 * such class, and Go falls back on the older one; wine says "not implemented". */
#include <windows.h>
#include <winternl.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG n); /* RtlGenRandom */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T n) { return SystemFunction036(buffer, (ULONG)n); }

#define STATUS_INVALID_INFO_CLASS ((NTSTATUS)0xc0000003)
enum { dispositionEx = 64, stub = 32 };

typedef NTSTATUS (NTAPI *set_information)(HANDLE, PIO_STATUS_BLOCK, PVOID, ULONG, ULONG);
static set_information original;

static NTSTATUS NTAPI set_information_file(HANDLE file, PIO_STATUS_BLOCK status, PVOID info, ULONG size, ULONG class)
{
	if (class == dispositionEx)
		return STATUS_INVALID_INFO_CLASS;
	return original(file, status, info, size, class);
}

/* The function is a system call's stub of less than 32 bytes that can be moved:
 * it is copied, and a jump to our own put in its place. */
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved)
{
	BYTE jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0}; /* mov $..,%rax; jmp *%rax */
	void *own = (void *)set_information_file;
	BYTE *at;
	DWORD old;
	(void)self; (void)reserved;
	if (reason != DLL_PROCESS_ATTACH)
		return TRUE;
	at = (BYTE *)GetProcAddress(GetModuleHandleA("ntdll.dll"), "NtSetInformationFile");
	original = VirtualAlloc(NULL, stub, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE);
	if (!at || !original || !VirtualProtect(at, sizeof jump, PAGE_EXECUTE_READWRITE, &old))
		return FALSE;
	memcpy((void *)original, at, stub);
	memcpy(jump + 2, &own, sizeof own);
	memcpy(at, jump, sizeof jump);
	return TRUE;
}
