package topology

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Shapes are the shapes that Generate knows.
var Shapes = []string{"grid", "fattree", "random", "ring"}

// Plan says what network to generate.
//
// A grid and a ring have no leaves: every node is an SG that carries transit,
// and owns prefixes. A fat tree has SRs as core and aggregation switches and SGs
// as edge switches. A random network is one of SRs with four links each on
// average, and as many SGs with links to two of them.
type Plan struct {
	Shape string
	// Nodes is how many there are; a grid is as square as that allows, a fat
	// tree takes the k whose 5k²/4 nodes come nearest.
	Nodes           int
	K               int // of a fat tree, even; 0 = by Nodes
	PrefixesPerNode int // of each SG
	Seed            uint64
}

// Size is the number of nodes that Generate makes of a valid plan.
func (p Plan) Size() int {
	if p.Shape != "fattree" {
		return p.Nodes
	}
	return 5 * p.ports() * p.ports() / 4
}

// ports are those of each switch of a fat tree.
func (p Plan) ports() int {
	return cmp.Or(p.K, max(2, 2*int(math.Round(math.Sqrt(float64(p.Nodes)/5)))))
}

// Generate writes the topology file of a plan: the same plan, the same bytes.
// Links cost 10, in a random network 1 to 20 in each direction. Prefixes are
// f0/0, f1/1 … f0/20 …: pools of some ten instances each, spread over the
// network.
func Generate(p Plan) ([]byte, error) {
	var faults []error
	if p.K == 0 && (p.Nodes < 3 || p.Nodes > MaxNodes) {
		faults = append(faults, fmt.Errorf("%d nodes are not between 3 and %d", p.Nodes, MaxNodes))
	}
	if p.K < 0 || p.K%2 != 0 || 5*p.K*p.K/4 > MaxNodes {
		faults = append(faults, fmt.Errorf("k %d is not even, or makes more than %d nodes", p.K, MaxNodes))
	}
	if p.K != 0 && p.Shape != "fattree" {
		faults = append(faults, fmt.Errorf("only a fattree has a k, a %s has none", p.Shape))
	}
	if p.PrefixesPerNode < 0 || p.PrefixesPerNode > maxServices {
		faults = append(faults, fmt.Errorf("%d prefixes per node are not between 0 and %d", p.PrefixesPerNode, maxServices))
	}
	if !slices.Contains(Shapes, p.Shape) {
		faults = append(faults, fmt.Errorf("there is no shape %q; there are %v", p.Shape, Shapes))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	d := &drawing{rand: rand.New(rand.NewPCG(p.Seed, 0))}
	switch p.Shape {
	case "grid":
		d.grid(p.Nodes)
	case "ring":
		d.ring(p.Nodes)
	case "fattree":
		d.fatTree(p.ports())
	case "random":
		d.random(p.Nodes)
	}
	if n := len(d.gateways) * p.PrefixesPerNode; n > maxServices {
		return nil, fmt.Errorf("%d prefixes, at most %d fit into a topology file", n, maxServices)
	}
	return d.text(p), nil
}

// drawing is a network while it is made, as lines of YAML.
type drawing struct {
	rand         *rand.Rand
	names        []string
	nodes, links bytes.Buffer
	gateways     []string
}

func (d *drawing) node(role string, transit bool) string {
	name := fmt.Sprintf("%s-%d", map[string]string{"SG": "sg", "SR": "sr"}[role], len(d.names))
	d.names = append(d.names, name)
	also := ""
	if role == "SG" {
		d.gateways = append(d.gateways, name)
		if transit {
			also = ", transit: true"
		}
	}
	fmt.Fprintf(&d.nodes, "    - {name: %s, role: %s%s}\n", name, role, also)
	return name
}

func (d *drawing) link(a, b string) { fmt.Fprintf(&d.links, "    - {a: %s, b: %s}\n", a, b) }

func (d *drawing) grid(n int) {
	width := int(math.Ceil(math.Sqrt(float64(n))))
	for i := range n {
		name := d.node("SG", true)
		if i%width > 0 {
			d.link(d.names[i-1], name)
		}
		if i >= width {
			d.link(d.names[i-width], name)
		}
	}
}

func (d *drawing) ring(n int) {
	for i := range n {
		name := d.node("SG", true)
		if i > 0 {
			d.link(d.names[i-1], name)
		}
	}
	d.link(d.names[0], d.names[n-1])
}

// fatTree has k pods of k/2 aggregation and k/2 edge switches, and (k/2)² core
// switches: 5k²/4 nodes.
func (d *drawing) fatTree(k int) {
	half := k / 2
	var core []string
	for range half * half {
		core = append(core, d.node("SR", true))
	}
	for range k {
		var above []string
		for a := range half {
			above = append(above, d.node("SR", true))
			for c := range half {
				d.link(core[a*half+c], above[a])
			}
		}
		for range half {
			edge := d.node("SG", false)
			for _, a := range above {
				d.link(a, edge)
			}
		}
	}
}

func (d *drawing) random(n int) {
	linked := map[[2]int]bool{}
	link := func(i, j int) {
		if key := [2]int{min(i, j), max(i, j)}; i != j && !linked[key] {
			linked[key] = true
			fmt.Fprintf(&d.links, "    - {a: %s, b: %s, metric: %d, reverseMetric: %d}\n",
				d.names[key[0]], d.names[key[1]], 1+d.rand.IntN(20), 1+d.rand.IntN(20))
		}
	}
	routers := (n + 1) / 2
	for i := range routers {
		d.node("SR", true)
		if i > 0 {
			link(i, d.rand.IntN(i))
		}
	}
	for range routers {
		link(d.rand.IntN(routers), d.rand.IntN(routers))
	}
	for i := routers; i < n; i++ {
		d.node("SG", false)
		first := d.rand.IntN(routers)
		link(i, first)
		link(i, (first+1+d.rand.IntN(max(routers-1, 1)))%routers)
	}
}

func (d *drawing) text(p Plan) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "apiVersion: dmsc.io/v1alpha1\nkind: Topology\nmetadata: {name: %s-%d}\nspec:\n  nodes:\n", p.Shape, len(d.names))
	b.Write(d.nodes.Bytes())
	b.WriteString("  links:\n")
	b.Write(d.links.Bytes())
	total := len(d.gateways) * p.PrefixesPerNode
	if total == 0 {
		return b.Bytes()
	}
	b.WriteString("  pods:\n")
	functions := (total + 9) / 10
	for g, gateway := range d.gateways {
		fmt.Fprintf(&b, "    - {name: pod-%d, gateway: %s, services: [", g, gateway)
		for i := range p.PrefixesPerNode {
			if i > 0 {
				b.WriteString(", ")
			}
			// Neighbours in the list are in different pools, however many each has.
			n := i*len(d.gateways) + g
			fmt.Fprintf(&b, "{prefix: f%d/%d}", n%functions, n)
		}
		b.WriteString("]}\n")
	}
	return b.Bytes()
}
