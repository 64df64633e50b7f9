package netsrv

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Certificates are certificate files that may change while the server runs.
type Certificates struct {
	log  *slog.Logger
	now  func() time.Time
	disk Files

	mu      sync.Mutex
	checked time.Time
	pairs   []*pair
}

// Files is where certificates lie: files of the system, or of a test.
type Files interface {
	Stat(name string) (fs.FileInfo, error)
	ReadFile(name string) ([]byte, error)
}

// pair is one certificate with its key, as last read without a fault.
type pair struct {
	certFile, keyFile string
	stamp             [2]fileStamp // of the files when last tried
	missing           bool         // a file was not there when last tried
	unread            bool         // one was, and could not be read: it may be good, the next look tries again
	cert              *tls.Certificate
}

type fileStamp struct {
	mtime time.Time
	size  int64
}

// LoadCertificates reads pairs of PEM files: certificate chain and key. The first
// pair is shown to clients that ask for no name we know. log may be nil.
func LoadCertificates(log *slog.Logger, now func() time.Time, disk Files, files ...[2]string) (*Certificates, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if len(files) == 0 {
		return nil, fault.New(fault.Invalid, "no certificate files are given")
	}
	c := &Certificates{log: log, now: now, disk: disk, checked: now()}
	for _, f := range files {
		p := &pair{certFile: f[0], keyFile: f[1]}
		if _, err := p.reload(disk); err != nil {
			return nil, err
		}
		c.pairs = append(c.pairs, p)
	}
	return c, nil
}

// Get returns the certificate for a client: the first that suits it, else the
// first. At most once a second it looks whether the files changed; a pair that is
// broken, or half written, is logged and the old one stays in use. It is the
// GetCertificate of tls.Config.
func (c *Certificates) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if since := now.Sub(c.checked); since >= time.Second || since < 0 {
		c.checked = now
		for _, p := range c.pairs {
			c.refresh(p)
		}
	}
	for _, p := range c.pairs {
		if hello.SupportsCertificate(p.cert) == nil {
			return p.cert, nil
		}
	}
	return c.pairs[0].cert, nil
}

func (c *Certificates) refresh(p *pair) {
	changed, err := p.reload(c.disk)
	switch {
	case err != nil:
		c.log.Error("certificate not reloaded, the old one stays", "file", p.certFile, "err", err)
	case changed:
		c.log.Info("certificate reloaded", "file", p.certFile, "until", p.cert.Leaf.NotAfter)
	}
}

// reload reads the pair if its files are not those of the last try.
func (p *pair) reload(disk Files) (changed bool, err error) {
	stamp, err := p.look(disk)
	if err != nil {
		if p.missing {
			return false, nil // said already
		}
		p.missing = true
		return false, fault.Wrap(fault.Invalid, "certificate file cannot be read", err)
	}
	p.missing = false
	same := stamp == p.stamp
	if same && !p.unread {
		return false, nil
	}
	p.stamp = stamp
	cert, unread, err := p.read(disk)
	said := same && unread
	if p.unread = unread; said {
		return false, nil
	}
	if err != nil {
		return false, fault.Wrap(fault.Invalid, "certificate "+p.certFile+" with key "+p.keyFile+" cannot be used", err)
	}
	p.cert = &cert
	return true, nil
}

// read reads the pair. With unread, it does not know what is in the files.
func (p *pair) read(disk Files) (cert tls.Certificate, unread bool, err error) {
	chain, err := disk.ReadFile(p.certFile)
	if err != nil {
		return cert, true, err
	}
	key, err := disk.ReadFile(p.keyFile)
	if err != nil {
		return cert, true, err
	}
	cert, err = tls.X509KeyPair(chain, key)
	return cert, false, err
}

// look returns what tells a changed file from the one before.
func (p *pair) look(disk Files) (stamp [2]fileStamp, err error) {
	for i, name := range [2]string{p.certFile, p.keyFile} {
		st, err := disk.Stat(name)
		if err != nil {
			return stamp, err
		}
		stamp[i] = fileStamp{st.ModTime(), st.Size()}
	}
	return stamp, nil
}
