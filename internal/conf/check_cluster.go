package conf

import (
	"net/url"
	"slices"
	"strings"
)

// checkCluster holds the keys of the database, the object store and the nodes against each
// other. No fault repeats a value that may hold a password.
func (r *reader) checkCluster(c *Config) {
	s := &c.Store
	switch {
	case s.Engine != "postgres":
		if s.URL != "" {
			r.fail("store.url", `is only for the engine "postgres"`)
		}
	case s.URL == "":
		if slices.ContainsFunc(r.faults, func(f Fault) bool { return f.Key == "store.url" }) {
			break
		}
		r.fail("store.url", `is missing; the engine "postgres" needs to know its database, such as "postgres://martlet:password@db.example.org/martlet"`)
	default:
		if what := wrongDatabase(s.URL); what != "" {
			r.fail("store.url", "%s; it has the form postgres://user:password@host1:5432,host2:5432/database", what)
		}
	}
	r.checkBlobs(&c.Blobs, s.Engine)
	if n := c.Cluster.Node; n != "" && (len(n) > 63 || strings.Trim(strings.ToLower(n), "abcdefghijklmnopqrstuvwxyz0123456789-._") != "") {
		r.fail("cluster.node", "%q is not a name of up to 63 letters, digits, dots and hyphens", n)
	}
}

// wrongDatabase says what is wrong with a connection string, "" if nothing is to be seen.
func wrongDatabase(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	if !found || scheme != "postgres" && scheme != "postgresql" {
		return "does not begin with postgres://"
	}
	rest, _, _ = strings.Cut(rest, "?")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if strings.ContainsAny(rest[:i], "/# ") {
			return "has a character in its password that must be written as %2F, %23 or %20"
		}
		rest = rest[i+1:]
	}
	hosts, database, _ := strings.Cut(rest, "/")
	switch {
	case strings.ContainsAny(rest, " \t#"):
		return "has a character that no database has"
	case database == "" || strings.Contains(database, "/"):
		return "names no database"
	case slices.Contains(strings.Split(hosts, ","), "") && hosts != "":
		return "has an empty host"
	}
	return ""
}

func (r *reader) checkBlobs(b *Blobs, engine string) {
	if b.Engine != "s3" {
		for _, k := range []struct{ key, value string }{{"endpoint", b.Endpoint}, {"bucket", b.Bucket}, {"access_key", b.AccessKey}, {"secret_key", b.SecretKey}} {
			if k.value != "" {
				r.fail("blobs."+k.key, `is only for engine = "s3"`)
			}
		}
		return
	}
	if engine != "postgres" {
		r.fail("blobs.engine", `"s3" needs [store] engine = "postgres"; the engine %q keeps bodies itself`, engine)
	}
	r.needed("blobs", "endpoint", b.Endpoint)
	r.needed("blobs", "bucket", b.Bucket)
	r.needed("blobs", "access_key", b.AccessKey)
	r.needed("blobs", "secret_key", b.SecretKey)
	if at, err := url.Parse(b.Endpoint); b.Endpoint != "" {
		switch {
		case err != nil || at.Scheme != "https" && at.Scheme != "http" || at.Host == "":
			r.fail("blobs.endpoint", "%q is not an address such as https://s3.example.org", b.Endpoint)
		case at.User != nil || at.RawQuery != "" || at.Fragment != "" || at.Path != "" && at.Path != "/":
			r.fail("blobs.endpoint", "has more than a host and a port; bucket, prefix and keys have keys of their own")
		}
	}
	if n := b.Bucket; n != "" && (len(n) < 3 || len(n) > 63 || strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "") {
		r.fail("blobs.bucket", "%q is not the name of a bucket: 3 to 63 small letters, digits, dots and hyphens", n)
	}
	if strings.HasPrefix(b.Prefix, "/") || len(b.Prefix) > 200 || strings.ContainsAny(b.Prefix, "\x00\n\\") {
		r.fail("blobs.prefix", "%q is not a beginning of names such as \"martlet/\"", b.Prefix)
	}
}
