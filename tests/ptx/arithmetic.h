// PTX's arithmetic in C++: types by PTX's names, registers as unsigned integers, and what C++ has no operator for.
// Compile with -fwrapv and -ffp-contract=off. Each kernel includes it: a function less, or a header, is compile time.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef float f32;
typedef double f64;
typedef _Float16 f16;
struct bf16 {
    u16 bits;
};

template <class T> struct Wide;
template <> struct Wide<s16> { typedef s32 type; };
template <> struct Wide<u16> { typedef u32 type; };
template <> struct Wide<s32> { typedef s64 type; };
template <> struct Wide<u32> { typedef u64 type; };
template <> struct Wide<s64> { typedef __int128 type; };
template <> struct Wide<u64> { typedef unsigned __int128 type; };

template <class T> static inline typename Wide<T>::type wide(T a) { return a; }

// The high half of a product.
template <class T> static inline T high(T a, T b) { return (T)((wide(a) * wide(b)) >> (8 * sizeof(T))); }

template <class T> static inline T quotient(T a, T b) {
    if constexpr (std::is_integral_v<T>)
        return b == 0 ? (T)-1 : b == (T)-1 && std::is_signed_v<T> ? (T)-a : (T)(a / b);
    else
        return a / b;
}

template <class T> static inline T remainder_of(T a, T b) {
    return b == 0 ? a : b == (T)-1 && std::is_signed_v<T> ? (T)0 : (T)(a % b);
}

template <class T> static inline T absolute(T a) {
    if constexpr (std::is_integral_v<T>)
        return a < 0 ? (T)-a : a;
    else
        return std::fabs(a);
}

template <class T> static inline T inverse(T a) {
    if constexpr (std::is_same_v<T, bool>)
        return !a;
    else
        return (T)~a;
}

// NaN counts as missing, and -0 as less than +0.
template <class T> static inline T largest(T a, T b) {
    if constexpr (std::is_integral_v<T>) return a > b ? a : b;
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? b : a;
    return a > b || (a == b && !std::signbit(a)) ? a : b;
}

template <class T> static inline T least(T a, T b) {
    if constexpr (std::is_integral_v<T>) return a < b ? a : b;
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? b : a;
    return a < b || (a == b && std::signbit(a)) ? a : b;
}

// What comes of a and b, NaN where one of them is.
template <class T> static inline T or_nan(T a, T b, T found) {
    return std::isnan(a) || std::isnan(b) ? std::numeric_limits<T>::quiet_NaN() : found;
}

template <class T> static inline T flush(T a) {
    return std::fpclassify(a) == FP_SUBNORMAL ? std::copysign((T)0, a) : a;
}

// A conversion: of a float to an integer towards zero and saturating, NaN to 0; to a narrower float half to even.
template <class T, class S> static inline T convert(S s) {
    if constexpr (std::is_same_v<S, bf16>) {
        return convert<T>(__builtin_bit_cast(f32, (u32)s.bits << 16));
    } else if constexpr (std::is_same_v<T, bf16>) {
        u32 bits = __builtin_bit_cast(u32, (f32)s);
        return {(u16)(std::isnan((f32)s) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
    } else if constexpr (std::is_integral_v<T> && !std::is_integral_v<S>) {
        f64 whole = std::trunc((f64)s);
        if (std::isnan(whole)) return 0;
        if (whole <= (f64)std::numeric_limits<T>::min()) return std::numeric_limits<T>::min();
        if (whole >= (f64)std::numeric_limits<T>::max()) return std::numeric_limits<T>::max();
        return (T)whole;
    } else {
        return (T)s;
    }
}

// Two narrow floats in a register.
template <class T> static inline u32 pair(f32 upper, f32 lower) {
    u16 a = __builtin_bit_cast(u16, convert<T>(upper)), b = __builtin_bit_cast(u16, convert<T>(lower));
    return (u32)a << 16 | b;
}

template <class T> static inline T shift_left(T a, u32 n) { return n >= 8 * sizeof(T) ? (T)0 : (T)(a << n); }

template <class T> static inline T shift_right(T a, u32 n) {
    if (n < 8 * sizeof(T)) return (T)(a >> n);
    return std::is_signed_v<T> && a < 0 ? (T)-1 : (T)0;
}

// Bits at .. at + n - 1, of a signed type with the sign of the last one.
template <class T> static inline T bit_field(T a, u32 at, u32 n) {
    a = shift_right(a, at & 255), n &= 255;
    if (n == 0) return 0;
    u32 above = n < 8 * sizeof(T) ? 8 * sizeof(T) - n : 0;
    return shift_right((T)((std::make_unsigned_t<T>)a << above), above);
}

// Four bytes of the eight of a and b, as the four nibbles of `which` say; a nibble's high bit spreads the byte's sign.
static inline u32 permuted(u32 a, u32 b, u32 which) {
    u64 bytes = (u64)b << 32 | a;
    u32 found = 0;
    for (int i = 0; i < 4; i++) {
        u32 nibble = which >> 4 * i & 15;
        u8 byte = bytes >> 8 * (nibble & 7);
        if (nibble & 8) byte = byte & 0x80 ? 0xff : 0;
        found |= (u32)byte << 8 * i;
    }
    return found;
}

// b, with bits at .. at + n - 1 from the low ones of a.
static inline u32 inserted(u32 a, u32 b, u32 at, u32 n) {
    u32 mask = shift_left((n & 255) < 32 ? (1u << (n & 255)) - 1 : ~0u, at & 255);
    return (b & ~mask) | (shift_left(a, at & 255) & mask);
}

// The high half of (b, a) shifted to the left.
static inline u32 funnel_left(u32 a, u32 b, u32 n) { return (u32)(((u64)b << 32 | a) << (n & 31) >> 32); }
