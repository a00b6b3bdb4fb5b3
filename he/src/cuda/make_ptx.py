"""Compiles kernels.cu to kernels.ptx, without a GPU and without a CUDA toolkit.

    python3 -m venv venv
    venv/bin/pip install nvidia-cuda-nvrtc-cu12==12.0.140
    venv/bin/python make_ptx.py            # writes kernels.ptx
    venv/bin/python make_ptx.py --check    # fails if kernels.ptx is not what kernels.cu gives
    venv/bin/python make_ptx.py --machine sm_90 sm_120    # also to machine code: registers, spills

The version is the oldest of CUDA 12, so that every driver of CUDA 12 (525 and up) reads its PTX.
The machine code is thrown away. `--machine` takes what the installed compiler knows: a newer one,
installed in another venv, knows newer GPUs.
"""

import ctypes
import pathlib
import sys
from ctypes import byref, c_char_p, c_size_t, c_void_p, create_string_buffer

import nvidia.cuda_nvrtc

HERE = pathlib.Path(__file__).parent
LIBRARY = pathlib.Path(nvidia.cuda_nvrtc.__path__[0]) / "lib"
ARCHITECTURE = "compute_80"


def library():
    for builtins in LIBRARY.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(LIBRARY / "libnvrtc.so.12"))


def compile(nvrtc, architecture, what, *options):
    """The program as "PTX" or "CUBIN", and what the compiler says."""

    def text(name):
        size = c_size_t()
        call(f"nvrtcGet{name}Size", program, byref(size))
        buffer = create_string_buffer(size.value)
        call(f"nvrtcGet{name}", program, buffer)
        return buffer.raw[: size.value]

    def call(name, *arguments):
        status = getattr(nvrtc, name)(*arguments)
        if status:
            if name == "nvrtcCompileProgram":
                print(text("ProgramLog").rstrip(b"\0").decode())
            sys.exit(f"{name}: {status}")

    program, source = c_void_p(), (HERE / "kernels.cu").read_bytes()
    call("nvrtcCreateProgram", byref(program), c_char_p(source), b"kernels.cu", 0, None, None)
    options = ["--std=c++17", f"--gpu-architecture={architecture}", *options]
    array = (c_char_p * len(options))(*(option.encode() for option in options))
    call("nvrtcCompileProgram", program, len(options), array)
    return text(what), text("ProgramLog").rstrip(b"\0").decode()


def fingerprint():
    """FNV-1a of the source: a test sees when the text is of another one."""
    hash = 0xCBF29CE484222325
    for byte in (HERE / "kernels.cu").read_bytes():
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    return hash


def main():
    nvrtc, target = library(), HERE / "kernels.ptx"
    if "--machine" in sys.argv:
        for architecture in sys.argv[sys.argv.index("--machine") + 1 :]:
            code, log = compile(nvrtc, architecture, "CUBIN", "--ptxas-options=-v")
            print(architecture, len(code), "bytes", log, sep="\n")
        return
    ptx = compile(nvrtc, ARCHITECTURE, "PTX")[0].rstrip(b"\0").splitlines()
    # Every fourth line would say that inline assembly begins or ends, or nothing.
    ptx = [line for line in ptx if line.strip() and not line.endswith(b"inline asm")]
    ptx = b"\n".join([f"// of kernels.cu {fingerprint():016x}".encode(), *ptx]) + b"\n"
    if "--check" not in sys.argv:
        target.write_bytes(ptx)
    elif target.read_bytes() != ptx:
        sys.exit("kernels.ptx is not what kernels.cu gives")


if __name__ == "__main__":
    main()
