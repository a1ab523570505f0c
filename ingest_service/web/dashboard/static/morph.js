// Makes what is shown equal to a newer version of it, touching only what differs: focus, choices,
// open menus and what is half typed stay.

// What a person or a script sets on these is not the server's business.
const OWN = {
  a: ["tabindex"],
  button: ["disabled"],
  details: ["open"],
  input: ["checked", "value"],
  option: ["selected"],
};

/** Make `old` equal to `fresh`; both are elements of the same kind. */
export function morph(old, fresh) {
  if (old.hasAttribute("data-keep") || old.isEqualNode(fresh)) return;
  syncAttributes(old, fresh);
  if (old.matches("input, textarea, select")) return;
  syncChildren(old, fresh);
}

function syncAttributes(old, fresh) {
  const own = OWN[old.localName] ?? [];
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !own.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !own.includes(name)) old.setAttribute(name, value);
  }
}

function syncChildren(old, fresh) {
  const byId = new Map();
  for (const child of old.children) if (idOf(child)) byId.set(idOf(child), child);
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const same = byId.get(idOf(wanted));
    if (same) {
      if (same !== place) old.insertBefore(same, place);
      else place = place.nextSibling;
      morph(same, wanted);
    } else if (place && fits(place, wanted)) {
      const next = place.nextSibling;
      if (wanted.nodeType === Node.ELEMENT_NODE) morph(place, wanted);
      else if (place.data !== wanted.data) place.data = wanted.data;
      place = next;
    } else {
      old.insertBefore(document.importNode(wanted, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    if (!(place.nodeType === Node.ELEMENT_NODE && place.hasAttribute("data-keep"))) place.remove();
    place = next;
  }
}

/** Tell whether `old` can become `wanted`; what has an id stays itself. */
function fits(old, wanted) {
  return old.nodeName === wanted.nodeName && !idOf(old) && !idOf(wanted);
}

/** Return the id of a node: the property of a form is a field of it that is called so. */
function idOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("id") : null;
}
