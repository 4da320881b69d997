/* A CUDA runtime and driver that can do nothing. It is enough for PyTorch's device guards, streams and autograd over
   tensors without numbers. Symbols that are missing here are those of the real libraries. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING(name) int name(void) { return 0; }

static __thread int current = 0;

/* FAKE_CUDA_DRIVER: the CUDA version of a driver that is too old, such as 12020. */
static int old_driver(void) {
    const char *given = getenv("FAKE_CUDA_DRIVER");
    return given ? atoi(given) : 0;
}
int cudaGetDeviceCount(int *count) {
    const char *given = getenv("FAKE_CUDA_DEVICES");
    *count = given ? atoi(given) : 1;
    return old_driver() ? 35 : 0; /* cudaErrorInsufficientDriver */
}
int cudaGetDevice(int *device) { *device = current; return 0; }
int cudaSetDevice(int device) { current = device; return 0; }
int cudaDriverGetVersion(int *version) { *version = old_driver() ? old_driver() : 13000; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
int cudaDeviceCanAccessPeer(int *can, int from, int to) { *can = 0; return 0; }
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return 0; }
int cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority) { *stream = (void *)0x10; return 0; }
int cudaEventCreateWithFlags(void **event, unsigned flags) { *event = (void *)0x20; return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cudaStreamGetCaptureInfo(void *stream, int *status) { *status = 0; return 0; }
int cudaStreamGetCaptureInfo_v2(void *stream, int *status) { *status = 0; return 0; }

/* The choice of a convolution asks for the compute capability: at these places in CUDA 12 and 13 (driver_types.h). */
int cudaGetDeviceProperties(char *properties, int device) {
    memset(properties, 0, 400);
    *(int *)(properties + 360) = 9;
    *(int *)(properties + 364) = 0;
    return 0;
}
int cudaGetDeviceProperties_v2(char *properties, int device) { return cudaGetDeviceProperties(properties, device); }

NOTHING(cudaGetLastError)
NOTHING(cudaPeekAtLastError)
NOTHING(cudaDeviceSynchronize)
NOTHING(cudaStreamSynchronize)
NOTHING(cudaStreamQuery)
NOTHING(cudaStreamWaitEvent)
NOTHING(cudaEventRecord)
NOTHING(cudaEventRecordWithFlags)
NOTHING(cudaEventQuery)
NOTHING(cudaEventSynchronize)
NOTHING(cudaEventDestroy)

/* PyTorch looks up all of these when it first asks whether a device is in use. */
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    if (flags) *flags = 0;
    if (active) *active = 1;
    return 0;
}
NOTHING(cuCtxGetCurrent)
NOTHING(cuCtxSetCurrent)
NOTHING(cuDeviceGet)
NOTHING(cuDeviceGetAttribute)
NOTHING(cuDevicePrimaryCtxRetain)
NOTHING(cuFuncGetAttribute)
NOTHING(cuFuncSetAttribute)
NOTHING(cuFuncSetCacheConfig)
NOTHING(cuGetErrorString)
NOTHING(cuLaunchCooperativeKernel)
NOTHING(cuLaunchKernel)
NOTHING(cuLinkAddData_v2)
NOTHING(cuLinkComplete)
NOTHING(cuLinkCreate_v2)
NOTHING(cuModuleGetFunction)
NOTHING(cuModuleLoad)
NOTHING(cuModuleLoadData)
NOTHING(cuModuleLoadDataEx)
NOTHING(cuModuleUnload)
NOTHING(cuOccupancyMaxActiveBlocksPerMultiprocessor)
NOTHING(cuPointerGetAttribute)
NOTHING(cuTensorMapEncodeTiled)
