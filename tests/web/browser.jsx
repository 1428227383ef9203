import { createRoot } from "react-dom/client";
import { app } from "./app.jsx";

const url = new URL(location.href).searchParams.get("service");
createRoot(document.getElementById("root")).render(app({ url, getToken: () => window.mint() }));
