package directory

import (
	"context"
	"encoding/binary"

	"github.com/martlet-mail/martlet/internal/engine"
)

// DNSRecord is a record of the domain name system that this server has made.
type DNSRecord struct{ Name, Type, Value string }

// Published returns the records that were made for a domain: what may be taken away again.
func (d *Directory) Published(ctx context.Context, domain string) (all []DNSRecord, err error) {
	_, name, err := parseDomain(domain)
	if err != nil {
		return nil, err
	}
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		_, dec, found, err := get(r, publishedKey(name), recPublished)
		if err != nil || !found {
			return err
		}
		all, err = decodePublished(dec)
		return err
	})
	return all, err
}

// SetPublished remembers them. Faults: NotFound.
func (d *Directory) SetPublished(ctx context.Context, domain string, all []DNSRecord) error {
	_, name, err := parseDomain(domain)
	if err != nil {
		return err
	}
	return d.update(ctx, func(w engine.Writer) error {
		if _, err := needDomain(w, name); err != nil {
			return err
		}
		if len(all) == 0 {
			return w.Delete(publishedKey(name))
		}
		return w.Put(publishedKey(name), encodePublished(all))
	})
}

func decodePublished(d *decoder) (all []DNSRecord, err error) {
	for range d.Count() {
		all = append(all, DNSRecord{d.Str(), d.Str(), d.Str()})
	}
	return all, d.done()
}

func encodePublished(all []DNSRecord) []byte {
	b := binary.AppendUvarint(nil, uint64(len(all)))
	for _, r := range all {
		b = appendBytes(appendBytes(appendBytes(b, r.Name), r.Type), r.Value)
	}
	return seal(recPublished, b)
}
