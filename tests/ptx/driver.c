// A driver of NVIDIA's for Triton's launcher to call where there is none: one device of compute capability 9.0 that
// notes what it is asked to launch, and launches nothing.
//     gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o libcuda.so.1 driver.c
#include <stdint.h>
#include <string.h>

typedef int Result;
typedef unsigned long long Pointer;
enum { FUNCTIONS = 32, PARAMETERS = 64, LAUNCHES = 256 };

struct Function {
    char name[64];
    int n, sizes[PARAMETERS];  // of its parameters, as `describe` said
};
struct Config {  // as in cuda.h
    unsigned grid[3], block[3], shared;
    void* stream;
    void* attributes;
    unsigned n_attributes;
};
struct Launch {
    const char* name;
    unsigned grid[3], block[3], shared;
    void* stream;
    uint64_t values[PARAMETERS];
};

static struct Function functions[FUNCTIONS];
struct Launch launches[LAUNCHES];
int launched, asked_about_pointers;

static struct Function* find(const char* name) {
    struct Function* f = functions;
    while (f->name[0] && strcmp(f->name, name)) f++;
    strncpy(f->name, name, sizeof f->name - 1);
    return f;
}

// Say how many bytes each parameter of a kernel has: a real driver reads it in the machine code.
void describe(const char* name, int n, const int* sizes) {
    struct Function* f = find(name);
    f->n = n;
    memcpy(f->sizes, sizes, n * sizeof *sizes);
}

Result cuLaunchKernelEx(const struct Config* config, struct Function* f, void** parameters, void** extra) {
    struct Launch* launch = launches + launched++ % LAUNCHES;
    memset(launch, 0, sizeof *launch);
    launch->name = f->name;
    memcpy(launch->grid, config->grid, sizeof config->grid);
    memcpy(launch->block, config->block, sizeof config->block);
    launch->shared = config->shared;
    launch->stream = config->stream;
    for (int i = 0; i < f->n; i++) memcpy(launch->values + i, parameters[i], f->sizes[i]);
    return 0;
}

Result cuLaunchKernel(struct Function* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void* stream, void** parameters, void** extra) {
    struct Config config = {{gx, gy, gz}, {bx, by, bz}, shared, stream, 0, 0};
    return cuLaunchKernelEx(&config, f, parameters, extra);
}

Result cuModuleGetFunction(void** function, void* module, const char* name) {
    *function = find(name);
    return 0;
}

Result cuPointerGetAttribute(Pointer* found, int attribute, Pointer pointer) {
    asked_about_pointers++;
    *found = pointer;
    return 0;
}

Result cuDeviceGetAttribute(int* value, int attribute, int device) {
    switch (attribute) {
        case 8: *value = 49152; break;    // bytes of shared memory of a block
        case 10: *value = 32; break;      // threads of a warp
        case 12: *value = 65536; break;   // registers of a block
        case 16: *value = 132; break;     // multiprocessors
        case 39: *value = 2048; break;    // threads of a multiprocessor
        case 75: *value = 9; break;       // compute capability
        case 76: *value = 0; break;
        case 81: *value = 233472; break;  // bytes of shared memory of a multiprocessor
        case 97: *value = 232448; break;  // and of a block that asks for it
        default: *value = 1;
    }
    return 0;
}

Result cuFuncGetAttribute(int* value, int attribute, void* function) {
    *value = attribute == 0 ? 1024 : attribute == 4 ? 40 : 0;  // threads of a block, registers of a thread
    return 0;
}

// What else is called, answered as by a device on which all goes well.
static Result set(void** place, uintptr_t value) {
    *place = (void*)value;
    return 0;
}
static Result count(int* place, int value) {
    *place = value;
    return 0;
}
Result cuInit(unsigned flags) { return 0; }
Result cuDriverGetVersion(int* version) { return count(version, 13000); }
Result cuDeviceGetCount(int* n) { return count(n, 1); }
Result cuDeviceGet(int* device, int ordinal) { return count(device, ordinal); }
Result cuDevicePrimaryCtxRetain(void** context, int device) { return set(context, 1); }
Result cuCtxGetCurrent(void** context) { return set(context, 1); }
Result cuCtxSetCurrent(void* context) { return 0; }
Result cuCtxGetDevice(int* device) { return count(device, 0); }
Result cuCtxGetLimit(void** value, int limit) { return set(value, 0); }
Result cuCtxSetLimit(int limit, size_t value) { return 0; }
Result cuCtxSynchronize(void) { return 0; }
Result cuStreamSynchronize(void* stream) { return 0; }
Result cuStreamIsCapturing(void* stream, int* is) { return count(is, 0); }
Result cuModuleLoadData(void** module, const void* code) { return set(module, 2); }
Result cuModuleUnload(void* module) { return 0; }
Result cuFuncSetAttribute(void* function, int attribute, int value) { return 0; }
Result cuFuncSetCacheConfig(void* function, int config) { return 0; }
Result cuOccupancyMaxActiveClusters(int* n, void* function, void* config) { return count(n, 1); }
Result cuTensorMapEncodeTiled(void) { return 0; }
Result cuTensorMapEncodeIm2col(void) { return 0; }
Result cuGetErrorString(int error, const char** text) {
    *text = "no error of a real driver";
    return 0;
}
