package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
)

// placesOf returns in which of n groups a blob can be: first where it is put now, then where it
// was put when there were fewer groups. Growing moves no blob.
func placesOf(name mail.BlobRef, n int) []int {
	key := binary.BigEndian.Uint64(name[:]) ^ binary.BigEndian.Uint64(name[24:])
	var places []int
	for b, j := int64(-1), int64(0); j < int64(n); {
		b = j
		places = append(places, int(b))
		key = key*2862933555777941757 + 1
		j = int64(float64(b+1) * (float64(int64(1)<<31) / float64((key>>33)+1)))
	}
	// Jump consistent hash (Lamping and Veach, 2014) comes through the buckets of all smaller
	// numbers on its way.
	slices.Reverse(places)
	return places
}

func fromHex(dst []byte, s string) bool {
	n, err := hex.Decode(dst, []byte(s))
	return err == nil && n == len(dst)
}
