/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/digest.h"

#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

static void store(uint64_t hash, uint8_t digest[FB_DIGEST_SIZE])
{
	XXH64_canonical_t canonical;

	XXH64_canonicalFromHash(&canonical, hash);
	memcpy(digest, canonical.digest, FB_DIGEST_SIZE);
}

#ifdef __x86_64__

#include <cpuid.h>
#include <immintrin.h>
#include <sys/platform/x86.h>

#define VECTORS	  __attribute__((target("avx512dq,avx512vl")))
#define IN_VECTOR VECTORS __attribute__((always_inline)) static inline

/* The names of the specification. */
#define PRIME64_1 0x9e3779b185ebca87u
#define PRIME64_2 0xc2b2ae3d27d4eb4fu
#define PRIME64_3 0x165667b19e3779f9u
#define PRIME64_4 0x85ebca77c2b2ae63u

#define STRIPE 32u /* bytes: a word for each of the four accumulators */

/*
 * The C library has looked already; the compiler's __builtin_cpu_supports() does so
 * again at each start. (CPU_FEATURE_ACTIVE() shifts a signed 1 by 31.)
 */
static bool has_vectors(void)
{
	const unsigned int wanted = (unsigned int)bit_AVX512DQ | bit_AVX512VL;

	return (__x86_get_cpuid_feature_leaf(CPUID_INDEX_7)
			->active_array[cpuid_register_index_ebx] &
		wanted) == wanted;
}

static bool can_vectors(size_t size)
{
	return size && size % STRIPE == 0 && has_vectors();
}

static uint64_t rotate(uint64_t x, unsigned int by)
{
	return x << by | x >> (64 - by);
}

/* Steps 3 to 6 of the specification for an input of whole stripes. */
static uint64_t finish(const uint64_t acc[4], size_t size)
{
	uint64_t h = rotate(acc[0], 1) + rotate(acc[1], 7) + rotate(acc[2], 12) +
		     rotate(acc[3], 18);

	for (unsigned int i = 0; i < 4; i++) {
		h ^= rotate(acc[i] * PRIME64_2, 31) * PRIME64_1;
		h = h * PRIME64_1 + PRIME64_4;
	}
	h += size;
	h = (h ^ h >> 33) * PRIME64_2;
	h = (h ^ h >> 29) * PRIME64_3;
	return h ^ h >> 32;
}

IN_VECTOR __m256i step(__m256i acc, const uint8_t *at)
{
	const __m256i prime1 = _mm256_set1_epi64x((long long)PRIME64_1);
	const __m256i prime2 = _mm256_set1_epi64x((long long)PRIME64_2);
	__m256i in = _mm256_loadu_si256((const void *)at);

	acc = _mm256_add_epi64(acc, _mm256_mullo_epi64(in, prime2));
	return _mm256_mullo_epi64(_mm256_rol_epi64(acc, 31), prime1);
}

/*
 * `count`, a constant of at most FB_DIGEST_LANES, parts at once: a multiplication
 * waits for the one before it in the same part only.
 */
IN_VECTOR void digest_lanes(const uint8_t *bytes, size_t size, unsigned int count,
			    uint8_t (*digests)[FB_DIGEST_SIZE])
{
	const __m256i start =
		_mm256_set_epi64x((long long)(0 - PRIME64_1), 0, (long long)PRIME64_2,
				  (long long)(PRIME64_1 + PRIME64_2));
	__m256i acc[FB_DIGEST_LANES] = { start, start, start, start };
	uint64_t out[4];

	for (size_t at = 0; at < size; at += STRIPE)
#pragma GCC unroll 4
		for (unsigned int i = 0; i < count; i++)
			acc[i] = step(acc[i], bytes + i * size + at);
	for (unsigned int i = 0; i < count; i++) {
		_mm256_storeu_si256((void *)out, acc[i]);
		store(finish(out, size), digests[i]);
	}
}

/* How many of the `count` parts were done. */
VECTORS static size_t digest_some(const uint8_t *bytes, size_t size, size_t count,
				  uint8_t (*digests)[FB_DIGEST_SIZE])
{
	if (count >= 4) {
		digest_lanes(bytes, size, 4, digests);
		return 4;
	}
	if (count >= 2) {
		digest_lanes(bytes, size, 2, digests);
		return 2;
	}
	digest_lanes(bytes, size, 1, digests);
	return 1;
}

#else

static bool can_vectors(size_t size)
{
	(void)size;
	return false;
}

static size_t digest_some(const uint8_t *bytes, size_t size, size_t count,
			  uint8_t (*digests)[FB_DIGEST_SIZE])
{
	(void)bytes, (void)size, (void)digests;
	return count;
}

#endif

void fb_digest_parts(const void *bytes, size_t size, size_t count,
		     uint8_t (*digests)[FB_DIGEST_SIZE])
{
	const uint8_t *at = bytes;

	if (!can_vectors(size)) {
		for (size_t i = 0; i < count; i++)
			store(XXH64(at + i * size, size, 0), digests[i]);
		return;
	}
	while (count) {
		size_t done = digest_some(at, size, count, digests);

		at += done * size;
		digests += done;
		count -= done;
	}
}

void fb_digest(const void *bytes, size_t size, uint8_t digest[FB_DIGEST_SIZE])
{
	uint8_t one[1][FB_DIGEST_SIZE];

	fb_digest_parts(bytes, size, 1, one);
	memcpy(digest, one[0], FB_DIGEST_SIZE);
}
