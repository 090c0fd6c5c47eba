package xds

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A client in step with a set costs its stream a reference: nothing is kept per
// resource, nor per subscribed name.
func TestAStreamInStepHoldsNoStateOfItsOwn(t *testing.T) {
	f := newFleet(t, 3, 50)
	for port := range 5 {
		f.change(9000 + port)
		f.publish(t)
		f.wait()
	}
	f.stop()
	first := f.streams[0].want
	for i, st := range f.streams {
		if st.want != first {
			t.Errorf("stream %d works towards a set of its own", i)
		}
		for typ := Clusters; typ <= Endpoints; typ++ {
			sub := &st.subs[typ]
			if sub.base != first.types[typ] || len(sub.except)+len(sub.todo)+len(sub.inflight) > 0 {
				t.Errorf("stream %d: %s: %d exceptions, %d items, %d in flight", i, typ, len(sub.except), len(sub.todo), len(sub.inflight))
			}
			if len(sub.names.plus)+len(sub.names.minus) > 0 {
				t.Errorf("stream %d: %s: %d names of its own", i, typ, len(sub.names.plus))
			}
		}
		if len(st.warming) > 0 || st.warmest > smallMap || st.retained != nil {
			t.Errorf("stream %d: warming %v, retained %v", i, st.warming, st.retained)
		}
	}
	if list := f.streams[0].subs[Endpoints].names.list; &list[0] != &f.streams[1].subs[Endpoints].names.list[0] {
		t.Error("two streams have a list of names each")
	}
}

func TestNodesThatRunTheSameShareIt(t *testing.T) {
	s, set := New(Config{}), manyClusters(5)
	for _, name := range []string{"a", "b"} {
		if _, err := s.Publish(name, set); err != nil {
			t.Fatal(err)
		}
	}
	if s.nodes["a"].want != s.nodes["b"].want {
		t.Error("the set is there twice")
	}
	old := s.nodes["a"].want
	set.Endpoints[0] = assignment("c-0000", 1)
	for _, name := range []string{"a", "b"} {
		if _, err := s.Publish(name, set); err != nil {
			t.Fatal(err)
		}
	}
	now := s.nodes["a"].want
	if now == old || now != s.nodes["b"].want {
		t.Error("the next set is not shared")
	}
	if now.types[Clusters] != old.types[Clusters] || &now.types[Endpoints].names[0] != &old.types[Endpoints].names[0] {
		t.Error("what did not change is there twice")
	}
}

// Whatever is done to it, a nameSet is the set that a map would be.
func TestANameSetIsASet(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var set nameSet
	want, shared := map[string]bool{}, 0
	alike := func() (list []string) { // but for a few names
		for i := range 60 {
			if name := string(rune('A' + i)); want[name] != (r.IntN(15) == 0) {
				list = append(list, name)
			}
		}
		return list
	}
	for range 20_000 {
		name := string(rune('A' + r.IntN(60)))
		switch r.IntN(9) {
		case 0, 1, 2, 3, 4:
			set.add(name)
			want[name] = true
		case 5, 6, 7:
			set.remove(name)
			delete(want, name)
		case 8:
			list := alike()
			set.share(list)
			if len(set.list) > 0 && len(list) > 0 && &set.list[0] == &list[0] {
				shared++
			}
		}
		if set.len() != len(want) || set.has(name) != want[name] {
			t.Fatalf("%d names, want %d; %s: %t, want %t", set.len(), len(want), name, set.has(name), want[name])
		}
		if size := len(want) * sizeOf("A"); set.size != size {
			t.Fatalf("size %d, want %d", set.size, size)
		}
	}
	if got := slices.Sorted(set.all()); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("got %v, want %v", got, want)
	}
	if shared == 0 {
		t.Error("no list was ever shared: nothing was tested")
	}
}
