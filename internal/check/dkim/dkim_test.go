package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"io"
	"testing"
)

func edKey(seed []byte) crypto.Signer { return ed25519.NewKeyFromSeed(seed) }

func splitHeader(text string) ([]byte, func(context.Context) (io.ReadCloser, error)) {
	return split(text)
}

var _ = testing.Short
