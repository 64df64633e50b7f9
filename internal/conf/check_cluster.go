package conf

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// checkCluster holds the keys of the database, the object store and the nodes against each
// other. No fault repeats a value that may hold a password.
func (r *reader) checkCluster(c *Config) {
	s := &c.Store
	switch {
	case s.Engine != "postgres" && (!r.both || s.URL == ""):
		if s.URL != "" {
			r.fail("store.url", `is only for the engine "postgres"`)
		}
	case s.URL == "":
		if slices.ContainsFunc(r.faults, func(f Fault) bool { return f.Key == "store.url" }) {
			break
		}
		r.fail("store.url", `is missing; the engine "postgres" needs to know its database, such as "postgres://martlet:password@db.example.org/martlet"`)
	default:
		if what := WrongDatabase(s.URL); what != "" {
			r.fail("store.url", "%s", what)
		}
	}
	r.checkBlobs(&c.Blobs, s.Engine)
	if n := c.Cluster.Node; n != "" && (len(n) > 63 || strings.Trim(strings.ToLower(n), "abcdefghijklmnopqrstuvwxyz0123456789-._") != "") {
		r.fail("cluster.node", "%q is not a name of up to 63 letters, digits, dots and hyphens", n)
	}
}

// WrongDatabase says what is wrong with a connection string and how it is to be, "" if nothing is
// to be seen.
func WrongDatabase(text string) string {
	if what := wrongDatabase(text); what != "" {
		return what + "; it has the form postgres://user:password@host1:5432,host2:5432/database"
	}
	return ""
}

// wrongDatabase says what is wrong with a connection string, "" if nothing is to be seen. It
// repeats nothing that may be a part of the password.
func wrongDatabase(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	if !found || scheme != "postgres" && scheme != "postgresql" {
		return "does not begin with postgres://"
	}
	rest, query, _ := strings.Cut(rest, "?")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if strings.ContainsAny(rest[:i], "/# ") {
			return "has a character in its password that must be written as %2F, %23 or %20"
		}
		if _, err := url.PathUnescape(rest[:i]); err != nil {
			return "has a % in its user or password that must be written as %25"
		}
		rest = rest[i+1:]
	}
	hosts, database, _ := strings.Cut(rest, "/")
	_, err := url.PathUnescape(database)
	switch {
	case strings.ContainsAny(rest, " \t#"):
		return "has a character that no database has"
	case database == "" || strings.Contains(database, "/"):
		return "names no database"
	case err != nil:
		return "has a % in the name of its database that must be written as %25"
	case hosts == "":
		return wrongParameters(query)
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if what := wrongHost(host); what != "" {
			return what
		}
	}
	return wrongParameters(query)
}

// wrongHost says what is wrong with one host of a connection string.
func wrongHost(host string) string {
	port := ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, port = host[:i], host[i+1:]
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "has a port that is not a number from 1 to 65535"
		}
	}
	if host == "" {
		return "has an empty host"
	}
	if strings.Contains(host, ":") && !(strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")) {
		return "has a host with colons that must be written as [host]"
	}
	return ""
}

// databaseParameters are what may follow the ? of a connection string: those of the connection,
// with the words that they take if these are few, and settings of the server that somebody may want.
var databaseParameters = map[string]string{
	"host": "", "port": "", "database": "", "dbname": "", "user": "", "password": "", "passfile": "", "service": "", "servicefile": "",
	"sslmode":     "disable|allow|prefer|require|verify-ca|verify-full",
	"sslrootcert": "", "sslcert": "", "sslkey": "", "sslpassword": "", "sslsni": "0|1", "sslnegotiation": "postgres|direct",
	"krbsrvname": "", "krbspn": "", "connect_timeout": "", "channel_binding": "disable|prefer|require", "require_auth": "",
	"min_protocol_version": "3.0|3.2|latest", "max_protocol_version": "3.0|3.2|latest",
	"target_session_attrs": "any|read-write|read-only|primary|standby|prefer-standby",
	"application_name":     "", "options": "", "search_path": "", "client_encoding": "", "timezone": "", "TimeZone": "", "role": "",
	"synchronous_commit": "", "statement_timeout": "", "lock_timeout": "", "work_mem": "", "idle_session_timeout": "",
	"idle_in_transaction_session_timeout": "", "client_min_messages": "", "tcp_user_timeout": "", "tcp_keepalives_idle": "",
	"tcp_keepalives_interval": "", "tcp_keepalives_count": "", "sslcertmode": "disable|allow|require",
}

// wrongParameters says what is wrong with the parameters of a connection string.
func wrongParameters(query string) string {
	all, err := url.ParseQuery(query)
	if err != nil {
		return "has a parameter with a % or ; that must be written as %25 or %3B"
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		words, known := databaseParameters[name]
		value := all.Get(name)
		switch {
		case !known:
			return "has a parameter" + quoted(name) + "that is not known" + nearestParameter(name)
		case words != "" && !slices.Contains(strings.Split(words, "|"), value):
			return fmt.Sprintf("has a value of %s that is not one of %s", name, strings.ReplaceAll(words, "|", ", "))
		case name == "connect_timeout":
			if n, err := strconv.Atoi(value); err != nil || n < 0 {
				return "has a connect_timeout that is not a number of seconds"
			}
		}
	}
	return ""
}

// quoted repeats the name of a parameter unless it may be a part of something else.
func quoted(name string) string {
	if len(name) > 40 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz_.") != "" {
		return " "
	}
	return fmt.Sprintf(" %q ", name)
}

func nearestParameter(name string) string {
	best, at := "", 3
	for _, k := range slices.Sorted(maps.Keys(databaseParameters)) {
		if d := distance(name, k); d < at && len(name) <= 40 {
			best, at = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
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
	if engine != "postgres" && !r.both {
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
