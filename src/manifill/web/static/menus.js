// Menus and sheets open beside their buttons, inside the window.

const EDGE = 8; // pixels to the window's border

export function placeMenus() {
  for (const menu of document.querySelectorAll("[popover]")) {
    const button = document.querySelector(`[popovertarget="${menu.id}"]`);
    menu.addEventListener("toggle", ({ newState }) => {
      button.setAttribute("aria-expanded", String(newState === "open"));
      if (newState === "open") put(menu, button);
    });
    if (menu.classList.contains("menu")) menu.addEventListener("click", () => menu.hidePopover());
    button.setAttribute("aria-expanded", "false");
  }
}

function put(menu, button) {
  const at = button.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const below = menu.dataset.side === "below";
  const top = below ? at.bottom + EDGE : at.top - height - EDGE;
  menu.style.left = `${inside(below ? at.left : at.right - width, width, window.innerWidth)}px`;
  menu.style.top = `${inside(top, height, window.innerHeight)}px`;
}

function inside(start, size, room) {
  return Math.max(EDGE, Math.min(start, room - size - EDGE));
}
