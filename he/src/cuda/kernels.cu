// Seals and opens blocks: the algorithm of `rlwe`, number for number, one group of N/16 threads a
// block, 16 numbers a thread. After a change: make_ptx.py.
//
//   draw      mask: ChaCha12 words below p, in order                       through shared memory
//   layers    inverse transform of mask ∘ key image, 16 numbers in registers:
//             strides 1 … 8 │ exchange │ 16 … 128 │ exchange │ 256 … N/2
//   seal      plus message and error            open   upload minus product, around zero
//
// Branches and addresses depend on the mask, which is public, and on nothing else.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef signed char i8;

constexpr u32 LOW = 0x7fffffff;

// 1 / a modulo p, by Fermat.
__device__ constexpr u64 inverse(u64 a, u64 p) {
    u64 power = 1;
    for (u64 e = p - 2; e; e >>= 1) {
        if (e & 1) power = power * a % p;
        a = a * a % p;
    }
    return power;
}

// The instruction, so that no compiler makes a branch of it.
__device__ __forceinline__ u32 least(u32 a, u32 b) {
    u32 least;
    asm("min.u32 %0, %1, %2;" : "=r"(least) : "r"(a), "r"(b));
    return least;
}

// Arithmetic on residues below P, 2^30 < P < 2^31. `least` takes P off, or adds it, where it can.
template <u32 P> struct Modulus {
    static __device__ constexpr u32 quotient(u64 w) { return u32((w << 32) / P); }
    static __device__ u32 once(u32 x) { return least(x, x - P); }
    static __device__ u32 add(u32 a, u32 b) { return once(a + b); }
    static __device__ u32 sub(u32 a, u32 b) { return least(a - b, a - b + P); }
    // Shoup: q is the quotient of w · 2^32 by P.
    static __device__ u32 mul(u32 x, u32 w, u32 q) { return once(x * w - __umulhi(x, q) * P); }
};

struct Narrow {
    static constexpr int N = 2048;
    static constexpr u32 P = 2147389441;
    static constexpr i64 BOUND = P / 2;
};

struct Wide {
    static constexpr int N = 4096;
    static constexpr u32 P = 2147377153;
    static constexpr u32 Q = 2147352577;
    static constexpr u64 PQ = u64(P) * Q;
    static constexpr i64 BOUND = PQ / 2;
};

// What a group of threads shares. A word of padding after every 16 spreads strides over banks.
template <int N> struct Room {
    u32 words[N + N / 16];
    u32 kept[N / 16];
};

// at(a + b) = at(a) + at(b) where 16 divides a.
__device__ __forceinline__ constexpr int at(int place) { return place + (place >> 4); }

__device__ __forceinline__ u32 left(u32 x, int turn) { return x << turn | x >> (32 - turn); }

__device__ __forceinline__ void quarter(u32 &a, u32 &b, u32 &c, u32 &d) {
    a += b, d = left(d ^ a, 16);
    c += d, b = left(b ^ c, 12);
    a += b, d = left(d ^ a, 8);
    c += d, b = left(b ^ c, 7);
}

// Low bits of the words of one block of the cipher.
__device__ __forceinline__ void chacha12(const u32 *key, u32 counter, u64 nonce,
                                         u32 (&x)[16]) {
    const u32 start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574,
                           key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7],
                           counter, 0, u32(nonce), u32(nonce >> 32)};
#pragma unroll
    for (int i = 0; i < 16; i++) x[i] = start[i];
#pragma unroll 1
    for (int round = 0; round < 6; round++) {
#pragma unroll
        for (int i = 0; i < 4; i++) quarter(x[i], x[4 + i], x[8 + i], x[12 + i]);
#pragma unroll
        for (int i = 0; i < 4; i++)
            quarter(x[i], x[4 + (i + 1) % 4], x[8 + (i + 2) % 4], x[12 + (i + 3) % 4]);
    }
#pragma unroll
    for (int i = 0; i < 16; i++) x[i] = (x[i] + start[i]) & LOW;
}

// The first N words below P, in the order of the stream.
template <int N, u32 P> __device__ void draw(const u32 *key, u64 block, Room<N> &room) {
    const int thread = threadIdx.x;
    u32 word[16], count = 0;
    chacha12(key, thread, block, word);
#pragma unroll
    for (int i = 0; i < 16; i++) count += word[i] < P;
    // Also the barrier after which nobody reads what was here.
    if (!__syncthreads_or(count < 16)) {
#pragma unroll
        for (int i = 0; i < 16; i++) room.words[at(16 * thread) + i] = word[i];
        __syncthreads();
        return;
    }
    room.kept[thread] = count;
    __syncthreads();
    int next = 0;
    for (int before = 0; before < thread; before++) next += room.kept[before];
#pragma unroll
    for (int i = 0; i < 16; i++)
        if (word[i] < P) room.words[at(next++)] = word[i];
    // Behind the last thread's words come those of the blocks that no thread has.
    if (thread == N / 16 - 1) {
        for (u32 counter = N / 16; next < N; counter++) {
            chacha12(key, counter, block, word);
#pragma unroll
            for (int i = 0; i < 16; i++)
                if (word[i] < P && next < N) room.words[at(next++)] = word[i];
        }
    }
    __syncthreads();
}

// Layers of strides STRIDE, 2·STRIDE, … on COUNT numbers from FROM on, which are STRIDE apart.
// Factor m + b, of the `powers`, is that of block b of the layer of stride N / 2m.
template <int N, u32 P, int STRIDE, int COUNT, int FROM = 0>
__device__ __forceinline__ void layers(const u32 *powers, int run, u32 (&x)[16]) {
    typedef Modulus<P> M;
#pragma unroll
    for (int t = 1; t < COUNT; t *= 2) {
        const u32 *by = powers + N / (2 * t * STRIDE) + run * (COUNT / 2 / t);
#pragma unroll
        for (int pair = 0; pair < COUNT / 2; pair++) {
            const int group = pair / t, i = FROM + pair + t * group;
            const u32 u = x[i], v = x[i + t];
            x[i] = M::add(u, v);
            x[i + t] = M::mul(u + P - v, by[group], by[N + group]);
        }
    }
}

// Number i of a thread is, in the end, the coefficient `thread` after this one. The last layers
// pair what is 256 apart: all 16 numbers of a thread, or twice 8.
template <int N> __device__ __forceinline__ constexpr int last(int i) {
    return i % (N / 256) * 256 + i / (N / 256) * (N / 16);
}

// The product of the mask and a key, as coefficients: 16 a thread.
template <int N, u32 P>
__device__ __forceinline__ void product(const u32 *key, const u32 *powers, const u32 *image,
                                        u64 block, Room<N> &room, u32 (&x)[16]) {
    const int thread = threadIdx.x;
    draw<N, P>(key, block, room);
    // Value i·N/16 + thread is place 16·thread + i of the usual order.
    image += thread;
    u32 *words = room.words + at(thread);
#pragma unroll
    for (int i = 0; i < N; i += N / 16)
        x[i / (N / 16)] = Modulus<P>::mul(words[at(i)], image[i], image[N + i]);
    __syncthreads();
    layers<N, P, 1, 16>(powers, thread, x);
    words = room.words + at(16 * thread);
#pragma unroll
    for (int i = 0; i < 16; i++) words[i] = x[i];
    __syncthreads();
    const int run = thread / 16;
    words = room.words + at(256 * run) + thread % 16;
#pragma unroll
    for (int i = 0; i < 16; i++) x[i] = words[at(16 * i)];
    layers<N, P, 16, 16>(powers, run, x);
#pragma unroll
    for (int i = 0; i < 16; i++) words[at(16 * i)] = x[i];
    __syncthreads();
    words = room.words + at(thread);
#pragma unroll
    for (int i = 0; i < 16; i++) x[i] = words[at(last<N>(i))];
    layers<N, P, 256, N / 256>(powers, 0, x);
    if (N / 256 < 16) layers<N, P, 256, 8, 8>(powers, 0, x);
}

// Seals modulo one prime. All pointers but `powers` are to what is this thread's.
template <int N, u32 P, i64 BOUND>
__device__ __forceinline__ void seal(const u32 *key, const u32 *powers, const u32 *image, u64 block,
                                     const i64 *messages, const i8 *errors, u32 *out,
                                     Room<N> &room) {
    typedef Modulus<P> M;
    // A multiple of P makes the sum positive: below 2·(BOUND + P + 2^7), less than 2^63.
    constexpr i64 POSITIVE = i64(P) * (BOUND / P + 1);
    // 2^31 mod P, to fold what lies above 31 bits.
    constexpr u32 FOLD = (1u << 31) - P;
    u32 x[16];
    product<N, P>(key, powers, image, block, room, x);
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const int j = last<N>(i);
        const u64 sum = u64(messages[j] + errors[j] + POSITIVE);
        const u32 low = M::once(u32(sum) & LOW);
        const u32 high = M::mul(u32(sum >> 31), FOLD, M::quotient(FOLD));
        out[j] = M::add(x[i], M::add(high, low));
    }
}

// Leaves nothing of the key in shared memory, for whoever runs next on this processor.
template <int N> __device__ void erase(Room<N> &room) {
    volatile u32 *words = room.words + at(threadIdx.x);
#pragma unroll
    for (int i = 0; i < 16; i++) words[at(last<N>(i))] = 0;
}

// `sealed`, from what is this thread's on, minus the product; `bad` if some of it is no residue.
template <int N, u32 P>
__device__ __forceinline__ void difference(const u32 *key, const u32 *powers, const u32 *image,
                                           u64 block, const u32 *sealed, Room<N> &room, u32 &bad,
                                           u32 (&x)[16]) {
    product<N, P>(key, powers, image, block, room, x);
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const u32 from = sealed[last<N>(i)];
        bad |= from >= P;
        x[i] = Modulus<P>::sub(from, x[i]);
    }
}

#define SEAL(name, set)                                                                           \
    extern "C" __global__ void __launch_bounds__(set::N / 16) name(                               \
        const u32 *__restrict__ keys, const u32 *__restrict__ powers,                             \
        const u32 *__restrict__ image, u64 first, const i64 *__restrict__ messages,               \
        const i8 *__restrict__ errors, u32 *__restrict__ out)
#define OPEN(name, set)                                                                           \
    extern "C" __global__ void __launch_bounds__(set::N / 16) name(                               \
        const u32 *__restrict__ keys, const u32 *__restrict__ powers,                             \
        const u32 *__restrict__ image, u64 first, const u32 *__restrict__ sealed,                 \
        i64 *__restrict__ sums, u32 *__restrict__ refused)

SEAL(privet_seal_narrow, Narrow) {
    constexpr int N = Narrow::N;
    __shared__ Room<N> room;
    const u64 i = blockIdx.x, from = i * N + threadIdx.x;
    messages += from, errors += from, out += from;
    seal<N, Narrow::P, Narrow::BOUND>(keys, powers, image, first + i, messages, errors, out, room);
    erase(room);
}

SEAL(privet_seal_wide, Wide) {
    constexpr int N = Wide::N;
    __shared__ Room<N> room;
    const u64 i = blockIdx.x, from = i * N + threadIdx.x;
    messages += from, errors += from, out += from + i * N;
    seal<N, Wide::P, Wide::BOUND>(keys, powers, image, first + i, messages, errors, out, room);
    seal<N, Wide::Q, Wide::BOUND>(keys + 8, powers + 2 * N, image + 2 * N, first + i, messages,
                                  errors, out + N, room);
    erase(room);
}

OPEN(privet_open_narrow, Narrow) {
    constexpr int N = Narrow::N;
    constexpr u32 P = Narrow::P;
    __shared__ Room<N> room;
    const u64 i = blockIdx.x, from = i * N + threadIdx.x;
    sums += from;
    u32 x[16], bad = 0;
    difference<N, P>(keys, powers, image, first + i, sealed + from, room, bad, x);
#pragma unroll
    for (int k = 0; k < 16; k++)
        sums[last<N>(k)] = i64(int(x[k] - (x[k] > P / 2 ? P : 0)));
    if (bad) atomicOr(refused, 1);
}

OPEN(privet_open_wide, Wide) {
    constexpr int N = Wide::N;
    constexpr u32 P = Wide::P, Q = Wide::Q;
    constexpr u32 INVERSE = u32(inverse(P - Q, Q));
    typedef Modulus<Q> M;
    __shared__ Room<N> room;
    const u64 i = blockIdx.x, from = i * N + threadIdx.x;
    sealed += from + i * N, sums += from;
    u32 a[16], b[16], bad = 0;
    difference<N, P>(keys, powers, image, first + i, sealed, room, bad, a);
    difference<N, Q>(keys + 8, powers + 2 * N, image + 2 * N, first + i, sealed + N, room, bad, b);
#pragma unroll
    for (int k = 0; k < 16; k++) {
        // x = a + P·t with t = (b − a)/P mod Q. As P < 2·Q, one step reduces a.
        const u32 t = M::mul(M::sub(b[k], M::once(a[k])), INVERSE, M::quotient(INVERSE));
        const u64 x = a[k] + u64(P) * t;
        sums[last<N>(k)] = i64(x - (x > Wide::PQ / 2 ? Wide::PQ : 0));
    }
    if (bad) atomicOr(refused, 1);
}
