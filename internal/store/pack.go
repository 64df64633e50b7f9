package store

import (
	"bufio"
	_ "embed"
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// packer compresses what the engine keeps. A header is short, so it is compressed
// against a dictionary of what headers usually say; a body is cut into chunks so
// that any range of it can be read without the rest.
type packer struct {
	header   *zstd.Encoder
	body     *zstd.Encoder
	unheader *zstd.Decoder
	unbody   *zstd.Decoder
	readers  sync.Pool // *bufio.Reader, for stored bodies
	folders  sync.Pool // *folder, for chunks of bodies
}

// headerDict is raw dictionary content. A change of it needs a new id beside the
// old one: records name the id they were made with.
//
//go:embed header.dict
var headerDict []byte

const headerDictID = 1

// How a packed value begins.
const (
	packedRaw        byte = 0
	packedZstd       byte = 1
	packedFolded     byte = 2 // runs of base64, then as packedRaw
	packedFoldedZstd byte = 3
	packedApart      byte = 4 // one run of base64 and the name of the blob that holds what it says
)

func newPacker() (*packer, error) {
	p := &packer{
		readers: sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }},
		folders: sync.Pool{New: func() any { return new(folder) }},
	}
	var err [4]error
	common := []zstd.EOption{zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(128 << 10), zstd.WithLowerEncoderMem(true)}
	p.body, err[0] = zstd.NewWriter(nil, common...)
	// With a dictionary the fastest level is the best too: a header is too short for
	// the others to gain by their larger tables, which are reset for each.
	p.header, err[1] = zstd.NewWriter(nil, append(common,
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderDictRaw(headerDictID, headerDict))...)
	limit := zstd.WithDecoderMaxMemory(8 << 20)
	p.unbody, err[2] = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), limit)
	p.unheader, err[3] = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), limit, zstd.WithDecoderDictRaw(headerDictID, headerDict))
	for _, e := range err {
		if e != nil {
			return nil, e
		}
	}
	return p, nil
}

// pack appends src to dst, compressed by e if that makes it shorter.
func pack(e *zstd.Encoder, dst, src []byte) []byte {
	start := len(dst)
	dst = e.EncodeAll(src, append(dst, packedZstd))
	if len(dst)-start > len(src) {
		dst = append(append(dst[:start], packedRaw), src...)
	}
	return dst
}

// unpack appends to dst what pack made into src.
func unpack(d *zstd.Decoder, dst, src []byte) ([]byte, error) {
	switch {
	case len(src) > 0 && src[0] == packedRaw:
		return append(dst, src[1:]...), nil
	case len(src) > 0 && src[0] == packedZstd:
		out, err := d.DecodeAll(src[1:], dst)
		if err != nil {
			return nil, fault.Wrap(fault.Corrupt, "stored bytes do not decompress", err)
		}
		return out, nil
	case len(src) > 0 && (src[0] == packedFolded || src[0] == packedFoldedZstd):
		return new(folder).unpack(d, dst, src)
	}
	return nil, fault.New(fault.Corrupt, "stored bytes are in no known form")
}

// plainMost is up to how many bytes of a header or a small body are kept as they are.
// The engine compresses its blocks, in each of which many messages of one account lie
// side by side: that takes less room than compressing each apart, and neither a delivery
// nor a reader has to do it. docs/decisions/0015.
const plainMost = 4 << 10

// sealPlain returns the record of bytes that are not packed, nil if there are too many.
func sealPlain(kind byte, b []byte) []byte {
	if len(b) > plainMost {
		return nil
	}
	r := make([]byte, 0, len(b)+6)
	r = append(append(r, kind, packedRaw), b...)
	return binary.BigEndian.AppendUint32(r, record.Sum(r))
}

// plainIn returns the bytes in a record of sealPlain.
func plainIn(r []byte) []byte { return r[2 : len(r)-4 : len(r)-4] }
