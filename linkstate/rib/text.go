package rib

import (
	"fmt"
	"strings"
)

// String prints the RIB for people and goldens, one line per entry.
func (r *RIB) String() string {
	var b strings.Builder
	for en := range r.All() {
		fmt.Fprintln(&b, en)
	}
	return b.String()
}

// String prints an entry:
//
//	b/4 via sr-1 ~ sr-2 metric 30 egress sg-4
//	a function via sr-1 + sr-2 metric 20 egress sg-1 sg-4 instances a/1 a/4
//	c/2 local
//	d/3 via sr-1 metric 10 egress sg-3 (no backup: no other link)
func (en *Entry) String() string {
	var b strings.Builder
	b.WriteString(en.Prefix.String())
	if en.Kind == Function {
		b.WriteString(" function")
	}
	if en.Local {
		b.WriteString(" local")
	} else {
		for i, h := range en.Group.Primaries {
			b.WriteString([]string{" via ", " + "}[min(i, 1)])
			b.WriteString(GroupName([]NextHop{h}, nil))
		}
		for _, h := range en.Group.Backup {
			fmt.Fprintf(&b, " ~ %s", h)
		}
	}
	if !en.Local || en.Distance > 0 {
		fmt.Fprintf(&b, " metric %d", en.Distance)
	}
	if !en.Local {
		b.WriteString(" egress")
		for _, id := range en.Egress {
			fmt.Fprintf(&b, " %s", id)
		}
	}
	if len(en.Instances) > 0 {
		b.WriteString(" instances")
		for _, p := range en.Instances {
			fmt.Fprintf(&b, " %s", p)
		}
	}
	if en.NoBackup != "" {
		fmt.Fprintf(&b, " (no backup: %s)", en.NoBackup)
	}
	return b.String()
}
