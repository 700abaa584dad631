// This runs before the first paint, so that the page never flashes in the other theme.
(() => {
  try {
    const theme = JSON.parse(localStorage.getItem("ashwood.theme"));
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // The storage may be forbidden. Then the page has the theme of the system.
  }
})();
