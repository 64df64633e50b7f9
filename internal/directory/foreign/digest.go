package foreign

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"

	//lint:ignore SA1019 it is what others have kept
	"golang.org/x/crypto/md4"
)

// sums are the digests, by the names of schemes without their S for salt.
var sums = map[string]func() hash.Hash{
	"SHA": sha1.New, "SHA256": sha256.New, "SHA512": sha512.New,
	"MD5": md5.New, "LDAP-MD5": md5.New, "PLAIN-MD5": md5.New, "PLAIN-MD4": md4.New,
}

// digest reads one hash of the password, and of a salt behind it, in base64 or in hexadecimal
// digits.
func digest(scheme string, salted bool) func(string, int64) (*Hash, error) {
	sum := sums[scheme]
	if salted {
		sum = sums[strings.TrimPrefix(scheme, "S")]
	}
	size := sum().Size()
	return func(body string, _ int64) (*Hash, error) {
		raw, ok := bytesOf(body, size, salted)
		if !ok {
			return nil, misformed(scheme)
		}
		want, salt := raw[:size], raw[size:]
		return &Hash{scheme: scheme, text: "{" + scheme + "}" + body, matches: func(p []byte) bool {
			h := sum()
			h.Write(p)
			h.Write(salt)
			return equal(h.Sum(nil), want)
		}}, nil
	}
}

// bytesOf decodes a digest of some size, with a salt or without.
func bytesOf(text string, size int, salted bool) ([]byte, bool) {
	fits := func(n int) bool { return !salted && n == size || salted && n > size && n <= size+maxSalt }
	if raw, err := hex.DecodeString(text); err == nil && fits(len(raw)) {
		return raw, true
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	return raw, err == nil && fits(len(raw))
}

// readCRAM reads what Dovecot keeps for CRAM-MD5: the states of the outer and the inner MD5 of
// HMAC after the padded key, little-endian (RFC 2195, 2).
func readCRAM(body string, _ int64) (*Hash, error) {
	want, err := hex.DecodeString(body)
	if err != nil || len(want) != 2*md5.Size {
		return nil, misformed("CRAM-MD5")
	}
	return &Hash{scheme: "CRAM-MD5", text: "{CRAM-MD5}" + body, matches: func(p []byte) bool {
		if len(p) > md5.BlockSize {
			sum := md5.Sum(p)
			p = sum[:]
		}
		return equal(append(padded(p, 0x5c), padded(p, 0x36)...), want)
	}}, nil
}

// padded returns the state of MD5 after a block of the key and a byte that pads it.
func padded(key []byte, pad byte) []byte {
	block := make([]byte, md5.BlockSize)
	copy(block, key)
	for i := range block {
		block[i] ^= pad
	}
	h := md5.New()
	h.Write(block)
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary() // "md5\x01", four words, the rest of a block
	if err != nil || len(state) < 4+md5.Size {
		return nil
	}
	out := make([]byte, 0, 2*md5.Size)
	for i := 4; i < 4+md5.Size; i += 4 {
		out = binary.LittleEndian.AppendUint32(out, binary.BigEndian.Uint32(state[i:]))
	}
	return out
}
