// Package s3 keeps the bytes of large bodies in a bucket of an object store that speaks the
// protocol of Amazon S3, and what was used lately on this node's disk.
//
// A Bucket tries again what may come right: a server that answers 500 or 503, is silent, or
// breaks off; a body that ends early goes on where it ended. An object is written once, under
// a name that nobody else uses, so that to write it again is always right. What an object is
// for, whether it may go, and the checksum of a whole one are the business of who puts it: the
// package knows no mail.
package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Objects keeps bytes by key. Bucket is one, and Cached in front of any.
type Objects interface {
	// Put stores size bytes read from r, durably when it returns nil. r is read once; where it
	// is short or fails nothing is stored.
	Put(ctx context.Context, key string, size int64, r io.Reader) error

	// Open returns n bytes from off on; n < 0 means to the end. A missing object is NotFound,
	// a range outside it Invalid.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)

	// Remove removes an object, which need not be there.
	Remove(ctx context.Context, key string) error

	// List yields the keys that begin with prefix, in order, with the object store's own
	// time of the last Put.
	List(ctx context.Context, prefix string, fn func(key string, at time.Time, size int64) bool) error
}

// Options say where the objects are. What has no default must be set.
type Options struct {
	Endpoint  string // "https://s3.example.org"
	Region    string
	Bucket    string
	Prefix    string // of every key in the bucket
	AccessKey string
	SecretKey string
	Roots     *x509.CertPool // that sign the endpoint's certificate; nil means the system's

	// How long an operation tries again before it fails as Unavailable, unless its context
	// says otherwise (engine.Patient). Default 60 s.
	Patience time.Duration

	// How long the object store may make no sign of life during a request. Default 15 s.
	Stall time.Duration

	// Bytes of all objects together that are on their way up and held in memory. Default 64 MiB.
	Memory int64

	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Now  func() time.Time
	Rand func() float64 // in [0, 1)
	Log  *slog.Logger

	pause time.Duration // before the second try; 0 is 50 ms
}

// Counts are how often something was done since Open.
type Counts struct {
	Puts, Gets, Removes, Lists int64 // requests, those that failed too
	Retries                    int64 // requests that were made once more
	Resumed                    int64 // bodies that ended early
	Sent, Received             int64 // bytes of objects
}

type counters struct{ puts, gets, removes, lists, retries, resumed, sent, received atomic.Int64 }

// Bucket is a part of a bucket. Its methods may be called from many goroutines.
type Bucket struct {
	opt  Options
	core minio.Core
	idle func() // gives connections up that nothing uses
	room *room
	n    counters
}

// Open returns the bucket. It asks nothing of the object store, which need not be up.
func Open(opt Options) (*Bucket, error) {
	u, err := url.Parse(opt.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fault.Newf(fault.Invalid, "the address of the object store, %q, is not of the form https://host[:port]", opt.Endpoint)
	}
	if opt.Patience <= 0 {
		opt.Patience = time.Minute
	}
	if opt.Stall <= 0 {
		opt.Stall = 15 * time.Second
	}
	if opt.Memory <= 0 {
		opt.Memory = 64 << 20
	}
	if opt.pause <= 0 {
		opt.pause = firstPause
	}
	transport := opt.transport()
	b := &Bucket{opt: opt, idle: transport.CloseIdleConnections, room: newRoom(max(opt.Memory, partSize))}
	client, err := minio.New(u.Host, &minio.Options{
		Creds:      credentials.NewStaticV4(opt.AccessKey, opt.SecretKey, ""),
		Secure:     u.Scheme == "https",
		Region:     opt.Region,
		Transport:  transport,
		MaxRetries: 1, // ours are counted, and end when nobody waits any more
	})
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "the object store cannot be used so: "+err.Error(), err)
	}
	client.SetAppInfo("martlet", "1")
	b.core = minio.Core{Client: client}
	return b, nil
}

func (o *Options) transport() *http.Transport {
	return &http.Transport{
		DialContext:         o.Dial,
		TLSClientConfig:     &tls.Config{RootCAs: o.Roots, Time: o.Now, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableCompression:  true,
	}
}

// Counts returns what was done so far.
func (b *Bucket) Counts() Counts {
	return Counts{
		Puts: b.n.puts.Load(), Gets: b.n.gets.Load(), Removes: b.n.removes.Load(), Lists: b.n.lists.Load(),
		Retries: b.n.retries.Load(), Resumed: b.n.resumed.Load(),
		Sent: b.n.sent.Load(), Received: b.n.received.Load(),
	}
}

// Close gives idle connections up.
func (b *Bucket) Close() error {
	b.idle()
	return nil
}

// Check puts an object, reads it, lists it and removes it: what a server must be allowed to
// do. The error says which of them failed.
func (b *Bucket) Check(ctx context.Context, key string) error {
	const text = "martlet looks whether it may use this bucket"
	steps := []struct {
		what string
		do   func() error
	}{
		{"written", func() error { return b.Put(ctx, key, int64(len(text)), strings.NewReader(text)) }},
		{"read", func() error { return b.same(ctx, key, text) }},
		{"listed", func() error { return b.listed(ctx, key) }},
		{"removed", func() error { return b.Remove(ctx, key) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fault.Wrap(fault.Of(err), "an object cannot be "+step.what+" in bucket "+b.opt.Bucket+" of "+b.opt.Endpoint, err)
		}
	}
	return nil
}

func (b *Bucket) same(ctx context.Context, key, text string) error {
	r, err := b.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(io.LimitReader(r, int64(len(text))+1))
	if err == nil && string(got) != text {
		err = fault.New(fault.Corrupt, "other bytes came back")
	}
	return err
}

func (b *Bucket) listed(ctx context.Context, key string) error {
	found := false
	err := b.List(ctx, key, func(k string, _ time.Time, _ int64) bool {
		found = found || k == key
		return !found
	})
	if err == nil && !found {
		err = errors.New("it is not in the list")
	}
	return err
}
