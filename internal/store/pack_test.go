package store

import (
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const typicalHeader = "Return-Path: <ann@example.org>\r\nReceived: from mail.example.org (mail.example.org [192.0.2.7])\r\n\tby mx.example.net with ESMTPS (TLS1.3 TLS_AES_128_GCM_SHA256) id abcd1234\r\n\tfor <bob@example.net>; Sun, 01 Mar 2026 10:00:01 +0000\r\nDKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=k1;\r\n\th=from:to:subject:date:message-id; bh=2jmj7l5rSw0yVb/vlWAYkK/YBwk=;\r\n\tb=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHutKVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV4bmp/YzhwvcubU4=\r\nFrom: Ann Example <ann@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: The minutes of yesterday's meeting\r\nMessage-ID: <20260301100000.GA1234@example.org>\r\nDate: Sun, 1 Mar 2026 11:00:00 +0100\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"

func TestHeaderPacksWell(t *testing.T) {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	packed := pack(p.header, nil, []byte(typicalHeader))
	if len(packed)*100 > len(typicalHeader)*62 {
		t.Errorf("%d bytes of %d", len(packed), len(typicalHeader))
	}
	back, err := unpack(p.unheader, nil, packed)
	if err != nil || string(back) != typicalHeader {
		t.Error("not the same again", err)
	}
}

func BenchmarkPackHeader(b *testing.B) {
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression} {
		for _, dict := range []bool{true, false} {
			b.Run(fmt.Sprintf("%v/dict=%v", level, dict), func(b *testing.B) {
				opts := []zstd.EOption{zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(128 << 10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(level)}
				if dict {
					opts = append(opts, zstd.WithEncoderDictRaw(headerDictID, headerDict))
				}
				e, _ := zstd.NewWriter(nil, opts...)
				var out []byte
				for b.Loop() {
					out = pack(e, out[:0], []byte(typicalHeader))
				}
				b.ReportMetric(float64(len(out)*100)/float64(len(typicalHeader)), "%")
			})
		}
	}
}
